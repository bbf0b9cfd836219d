"""kubectl for the states that write objects into the cluster."""


def run(kubeconfig, *arguments, stdin=None):
    """`kubectl ARGUMENTS`: {retcode, stdout, stderr}; 127 where there is no kubectl yet. Its output is not logged."""
    if not __salt__["cmd.has_exec"]("kubectl"):
        return {"retcode": 127, "stdout": "", "stderr": "kubectl is not installed"}
    command = ["kubectl", "--kubeconfig", kubeconfig, *arguments]
    return __salt__["cmd.run_all"](command, python_shell=False, stdin=stdin, ignore_retcode=True, output_loglevel="quiet")
