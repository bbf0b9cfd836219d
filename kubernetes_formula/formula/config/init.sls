# config: where operators push the model. A bare repository whose hooks check and run it, the reports, the
# pipeline's unit, and the bundle for the other machines.
include:
  - config.bundle
  - config.repository
  - config.pipeline
