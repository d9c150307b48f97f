"""Two hosts on one machine. Needs root, ip, tc and unshare."""
import contextlib
import os
import shlex
import signal
import subprocess


def run(*words):
    subprocess.run(words, check=True, capture_output=True, text=True)


class Hosts:
    """Two network name spaces with a cable between them, each with a name and an address of its own."""

    def __init__(self, folder, rate="1gbit"):
        self.rate = rate
        self.names = [f"l3{os.getpid()}{end}" for end in "ab"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]
        self.agent = folder / "agent.sh"
        self.agent.write_text("#!/bin/sh\n# Runs a command on the host whose address is $1, as ssh would.\n"
                              f'shift\nexec {shlex.join(self.on(1))} "$*"\n')
        self.agent.chmod(0o755)

    def on(self, host):
        """The beginning of a command that a shell on the host runs."""
        return ["ip", "netns", "exec", self.names[host], "unshare", "--uts", "sh", "-c",
                f'hostname l3-host-{"ab"[host]}; eval "$0"']

    def __enter__(self):
        a, b = self.names
        try:
            for words in [f"netns add {a}", f"netns add {b}", f"link add {a} netns {a} type veth peer {b} netns {b}"]:
                run("ip", *words.split())
            for name, address in zip(self.names, self.addresses):
                for words in ["ip link set lo up", f"ip address add {address}/24 dev {name}", f"ip link set {name} up",
                              f"tc qdisc add dev {name} root tbf rate {self.rate} burst 256kb latency 50ms"]:
                    run("ip", "netns", "exec", name, *words.split())
        except subprocess.CalledProcessError:
            self.__exit__()
            raise
        return self

    def cut(self):
        run("ip", "netns", "exec", self.names[0], "ip", "link", "set", self.names[0], "down")

    def forget(self):
        """What was sent and not answered is sent once more and no more: else the launcher waits for it for minutes."""
        for name in self.names:
            run("ip", "netns", "exec", name, "sysctl", "-w", "net.ipv4.tcp_retries2=1")

    def __exit__(self, *_):
        for name in self.names:
            left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def command(self, mpirun, count, program):
        """What starts so many of a program, in turns on the hosts."""
        # Else mpirun waits for minutes for the daemon of a host that is gone. So it does for 16 to 21 s, longer than l3.
        patience = ["--mca", "oob_tcp_keepalive_time", "5", "--mca", "oob_tcp_keepalive_intvl", "4", "--mca",
                    "oob_tcp_keepalive_probes", "4"]
        words = [mpirun, "--mca", "plm_rsh_agent", self.agent, "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include",
                 "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24", *patience, "--bind-to", "none"]
        words += ["--host", ",".join(f"{a}:{count // 2}" for a in self.addresses), "--map-by", "node:OVERSUBSCRIBE", "-n", count,
                  *program]
        return [*self.on(0), "exec " + shlex.join(map(str, words))]
