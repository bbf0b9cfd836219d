"""Every code that a problem of the model can have, in one table: documentation comes from it, a test keeps it whole.

E0xx the repository and how it is used · E1xx YAML, references, schemas · E2xx rules across machines · E3xx releases ·
E4xx secrets and certificates · W1xx warnings.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    "E001": "not in a deployment repo",
    "E002": "the repo's settings or directories are broken",
    "E003": "no such machine",
    "E005": "git refused",
    "E006": "no such revision",
    "E007": "the directory is not empty, or there are changes that are not committed",
    "E008": "the repo has no commit of the library to merge from",
    "E009": "a machine cannot be added",
    "E010": "an answer to `init` is not allowed",
    "E100": "a machine cannot be rendered",
    "E101": "invalid YAML",
    "E102": "a key stands twice in one mapping",
    "E103": "a class does not exist",
    "E104": "a reference, or a path asked for, leads to nothing",
    "E105": "references go in a circle",
    "E106": "a value cannot be merged over one of another type",
    "E107": "a file of the model has a wrong shape",
    "E108": "a reference is not well formed",
    "E110": "an unknown key",
    "E111": "a value of a wrong type",
    "E112": "a value that is not allowed",
    "E113": "a value is missing",
    "E120": "a schema is broken",
    "E201": "two machines have the same address",
    "E202": "networks overlap",
    "E203": "an even number of etcd members",
    "E204": "a member list does not agree with the machines",
    "E205": "not exactly one machine has the config role",
    "E206": "no machine can run a workload",
    "E207": "a workload uses an image that nobody defines",
    "E208": "something follows a workload that does not exist",
    "E301": "an unknown release",
    "E302": "a release is skipped",
    "E303": "a downgrade",
    "E401": "no age identity",
    "E402": "this identity cannot open a secret",
    "E403": "a secret is corrupt",
    "E404": "no such secret",
    "E405": "a recipient has no valid age public key",
    "E410": "a certificate, key or secret is declared wrongly",
    "E411": "no such certificate",
    "E412": "a certificate is corrupt",
    "W101": "YAML 1.1 and 1.2 read a value differently",
    "W110": "an unknown top level key",
}
