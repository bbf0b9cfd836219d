# salt.master: the master's keys, exactly the model's machines as its minions, and the service.
include:
  - salt.master.pki
  - salt.master.service
