# config: where operators push the model. A bare repository whose hooks check and run it, the reports, the pipeline's unit.
include:
  - config.repository
  - config.pipeline
