"""What a failed ssh says, told apart. OpenSSH ends with 255 for all of these; its messages differ."""

from __future__ import annotations

import re

from edgecnn.errors import TargetError

SSH_FAULT = 255
COMMAND_NOT_FOUND = 127

# In this order: of several messages, the first that fits is the cause. OpenSSH 7.6 to 9.9, ssh.c, sshconnect.c,
# packet.c, clientloop.c, and strerror(3).
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|key for .* has changed",
        "the host key of {host} is another than the one that is known{key}",
        (
            "if the board was set up anew: ssh-keygen -R {bare}, then once more with --accept-new-host-key; "
            "if not, another machine answers in its place"
        ),
    ),
    (
        r"No \S+ host key is known for|Host key verification failed",
        "the host key of {host} is not known{key}",
        (
            "compare it with what the board says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; then add "
            "--accept-new-host-key, or log in once with ssh {host}"
        ),
    ),
    (
        r"Permission denied|Too many authentication failures|no mutual signature",
        "{host} did not accept our key",
        "copy a key there: ssh-copy-id {host}; a key with a passphrase must be in the agent: ssh-add",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "there is no host called {bare}",
        "check the name; is the board on this network?",
    ),
    (
        r"Connection refused",
        "{host} refused the connection: no sshd listens there",
        "enable ssh on the board (raspi-config, Interface Options), or check the port",
    ),
    (
        r"Operation timed out|Connection timed out|Connection to \S+ port \d+ timed out|banner exchange",
        "{host} did not answer in time",
        "is the board on, and on this network?",
    ),
    (
        r"No route to host|Network is unreachable|Host is down",
        "there is no way to {host}: {words}",
        "is the board on, and on this network?",
    ),
    (
        (
            r"Bad (configuration option|owner or permissions)|terminating, \d+ bad|Can't open user config|"
            r"command-line: line|no argument after keyword|Unsupported option|[Mm]issing argument"
        ),
        "ssh does not accept its configuration: {words}",
        "mend the file that ssh names, or name another with --ssh-config",
    ),
)


def connection_fault(stderr: str, host: str) -> TargetError:
    """Why no connection came about."""
    words = _words(stderr)
    key = re.search(r"Server host key: (\S+ \S+)", stderr)
    names = {
        "host": host,
        "bare": host.rpartition("@")[2],
        "words": "; ".join(words[:2]),
        "key": f" ({key[1]})" if key else "",
    }
    text = "\n".join(words)
    for pattern, what, fix in _CAUSES:
        if re.search(pattern, text):
            return TargetError(what.format(**names), where=host, fix=fix.format(**names))
    return TargetError(
        f"no connection: {'; '.join(words[-3:]) or 'ssh said nothing'}", where=host, fix=f"try: ssh {host}"
    )


def lost(what: str, host: str) -> TargetError:
    return TargetError(
        f"the connection was lost during {what}",
        where=host,
        fix="check the board and its network, then try again",
    )


def flood(what: str, host: str) -> TargetError:
    return TargetError(
        f"it wrote messages without end during {what}, and the connection was ended",
        where=host,
        fix=f"see what logging in prints (ssh {host}), and mend what prints it there, such as ~/.bashrc",
    )


def _words(stderr: str) -> list[str]:
    """What ssh says to its user, without its debugging messages and frames."""
    lines = (line.strip() for line in stderr.splitlines())
    return [
        line for line in lines if line and not line.startswith(("debug", "@@@", "OpenSSH_", "Authenticated"))
    ]
