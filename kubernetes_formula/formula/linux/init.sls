# linux: packages, host names, kernel modules and settings that the other formulas stand on.
include:
  - linux.package
  - linux.network
  - linux.kernel
