"""Reading and writing: ROOT, Parquet, TFRecord and the manifests that make outputs visible."""
