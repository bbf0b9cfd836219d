# salt.minion: this machine's key pair and the master's public key, all from the model, and the service.
include:
  - salt.minion.pki
  - salt.minion.service
