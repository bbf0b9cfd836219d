"""Waiting for something that another state, or another machine, starts. A wait never reports a change."""

import time


def succeeds(name, command, timeout=120, interval=1):
    """Run `command` (a list) until it exits 0, at most `timeout` seconds; `name` says what is waited for."""
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name}: yes"}
    if __opts__["test"]:
        return {**ret, "comment": f"would wait until {name}"}
    end = time.monotonic() + timeout
    while True:
        done = __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True, timeout=30)
        if done["retcode"] == 0:
            return ret
        if time.monotonic() > end:
            last = (done["stderr"] or done["stdout"]).strip()
            return {
                **ret,
                "result": False,
                "comment": f"{name}: not in {timeout} s; `{' '.join(command)}`: {last}",
            }
        time.sleep(interval)
