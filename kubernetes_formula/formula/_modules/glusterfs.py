"""GlusterFS through its command line, for the states of the pool and its volumes: what it answers, as plain values."""

import subprocess
import time
from xml.etree import ElementTree

#: What gluster says while a machine joins or another command runs; it passes.
PASSING = (
    "Another transaction is in progress",
    "Locking failed",
    "is not in 'Peer in Cluster' state",
    "Not Started",
)


def run(*arguments, patience=0):
    """`gluster ARGUMENTS`: {"error": "" or what it said, "answer": the root of its XML or None}.

    Passing refusals are tried again for `patience` seconds.
    """
    end = time.monotonic() + patience
    while True:
        done = _once(arguments)
        if not any(words in done["error"] for words in PASSING) or time.monotonic() > end:
            return done
        time.sleep(2)


def _once(arguments):
    command = ["gluster", "--mode=script", "--xml", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    except FileNotFoundError:
        return {"error": "gluster is not installed", "answer": None}
    except subprocess.TimeoutExpired:
        return {"error": f"`{' '.join(command)}` did not end", "answer": None}
    said = (done.stderr.strip() or done.stdout.strip()) or f"ended with {done.returncode}"
    try:
        root = ElementTree.fromstring(done.stdout)
    except ElementTree.ParseError:
        return {"error": said if done.returncode else "", "answer": None}
    if done.returncode or root.findtext("opRet", "0") != "0":
        return {"error": root.findtext("opErrstr") or root.findtext("output") or said, "answer": root}
    return {"error": "", "answer": root}


def peers():
    """The other machines of the pool: {address: connected, and fully in the pool}; None where nothing answers yet."""
    answer = run("peer", "status")["answer"]
    if answer is None:
        return None
    found = {}
    for peer in answer.iter("peer"):
        whole = peer.findtext("connected") == "1" and peer.findtext("state") == "3"
        for name in [peer.findtext("hostname"), *(item.text for item in peer.findall("hostnames/hostname"))]:
            found[name] = whole
    return found


def volumes():
    """{name: {"started", "bricks": [address:/path], "options": {key: value}}}; None where nothing answers yet."""
    answer = run("volume", "info")["answer"]
    if answer is None:
        return None
    return {
        volume.findtext("name"): {
            "started": volume.findtext("statusStr") == "Started",
            "bricks": [brick.findtext("name") for brick in volume.iter("brick")],
            "options": {item.findtext("name"): item.findtext("value") for item in volume.iter("option")},
        }
        for volume in answer.iter("volume")
    }
