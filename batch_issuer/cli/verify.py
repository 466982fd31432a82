"""Placeholder."""

import click


@click.command()
def verify() -> None:
    """V"""
