"""What joins the three packages: images and manifests of a model, the plan, the pipeline, the report."""
