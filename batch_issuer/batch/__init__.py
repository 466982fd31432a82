"""The story of one run: plan, mint and stage, commit, publish, finish."""
