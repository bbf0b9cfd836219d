"""kubectl for the states that write objects into the cluster."""

import subprocess


def run(kubeconfig, *arguments, stdin=None):
    """`kubectl ARGUMENTS`: {retcode, stdout, stderr}; 127 where there is no kubectl yet.

    Not by Salt's cmd.run_all, which turns the two characters \\n in `stdin` (JSON's newline) into a line break.
    """
    command = ["kubectl", "--kubeconfig", kubeconfig, *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {"retcode": 127, "stdout": "", "stderr": "kubectl is not installed"}
    return {"retcode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
