"""System calls that a container's program has no business with, asked for from within it."""

from collections.abc import Mapping

_CLONE_NEWNET, _CLONE_NEWNS, _CLONE_NEWUSER = 0x40000000, 0x00020000, 0x10000000

REFUSED: Mapping[str, str] = {
    "mount": '165, "none", "/tmp", "tmpfs", 0, 0',
    "umount2": '166, "/tmp", 2',
    "fsopen": '430, "tmpfs", 0',
    "open_tree": '428, -100, "/", 1',
    "move_mount": '429, -1, "", -1, "", 0',
    "pivot_root": '155, "/", "/"',
    "chroot": '161, "/tmp"',
    "unshare_user": f"272, {_CLONE_NEWUSER}",
    "unshare_mounts": f"272, {_CLONE_NEWNS}",
    "unshare_network": f"272, {_CLONE_NEWNET}",
    "setns": "308, 0, 0",
    "process_vm_readv": "310, 1, 0, 0, 0, 0, 0",
    "keyctl": "250, 0, -3, 0, 0, 0",
    "add_key": '248, "user", "x", "y", 1, -3',
    "request_key": '249, "user", "x", 0, -3',
    "bpf": "321, 0, 0, 0",
    "userfaultfd": "323, 0",
    "perf_event_open": "298, 0, 0, -1, -1, 0",
    "io_uring_setup": "425, 1, 0",
    "init_module": '175, 0, 0, ""',
    "finit_module": "313, 0, 0, 0",
    "kexec_load": "246, 0, 0, 0, 0",
    "reboot": "169, 0, 0, 0",
    "swapon": '167, "/tmp/x", 0',
    "acct": '163, "/tmp/x"',
    "settimeofday": "164, 0, 0",
    "iopl": "172, 3",
    "syslog": "103, 3, 0, 0",
    "quotactl": "179, 0, 0, 0, 0",
    "open_by_handle_at": "304, -1, 0, 0",
    "personality": "135, 0x0400000",
    "setuid": "105, 0",
    "setgid": "106, 0",
    "mknod_of_a_disk": '133, "/tmp/disk", 060600, 0x0801',
    "socket_raw": "41, 2, 3, 1",
    "socket_raw_of_ipv6": "41, 10, 3, 58",
    "socket_packet": "41, 17, 3, 0",
    "socket_vsock": "41, 40, 1, 0",
}
"""Name → number on x86_64 and arguments. ptrace is not among them: a program may trace what is its own anyhow."""

OPEN_IN_OLD_ENGINES = {"io_uring_setup", "socket_vsock"}
"""What the default seccomp profile of engines before 25 lets through."""


def asking(calls: Mapping[str, str]) -> str:
    """A Perl program that makes each call and prints its name and the error's, or OK."""
    asked = "\n".join(f't("{name}", {arguments});' for name, arguments in calls.items())
    return (
        r"""
use Errno; $| = 1;
sub t { my ($name, @a) = @_; $! = 0; my $r = syscall($a[0], @a[1..$#a]); my $e = 0 + $!;
  my ($says) = $r < 0 ? grep { Errno->can($_)->() == $e } @{$Errno::EXPORT_TAGS{POSIX}}, "ENOSYS" : "OK";
  print "$name ", $says // $e, "\n" }
"""
        + asked
    )
