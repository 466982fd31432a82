"""Tasks on a Dask cluster: where it is, what runs on its workers, who supervises. Only this room imports Dask."""
