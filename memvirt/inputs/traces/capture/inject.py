"""One system call in another process, as a debugger makes it: by ptrace, at an instruction that it has anyway.

A userfaultfd follows the memory of the process that made it. So it is made there, and a copy of its descriptor is taken
out (pidfd_getfd). The process is stopped for that, its registers are kept, `syscall` is stepped over once with those of
the call, and everything is put back; a system call in which it was waiting goes on. Two such calls, some ten
microseconds each, are all that happens inside. Its code is looked at only while it stands: it stands at its way out of
the kernel, where an exec that has begun is over, while before its new memory may hold nothing but a stack.

x86-64 only: registers and numbers are those of that machine. Structure: struct user_regs_struct of sys/user.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
from pathlib import Path

from memvirt.errors import CorpusError

from .kernel import USER_MODE_ONLY, USERFAULTFD, _libc
from .process import mappings

SEIZE, INTERRUPT, SINGLESTEP, GETREGS, SETREGS, DETACH = 0x4206, 0x4207, 9, 12, 13, 17
WALL = 0x40000000
REGISTERS = 27
RDX, RSI, RDI, RAX, ORIG_RAX, RIP = 12, 13, 14, 10, 15, 16
SYSCALL = b"\x0f\x05"
CLOSE, PIDFD_GETFD = 3, 438
CLOSE_ON_EXEC = 0o2000000
NONE = (1 << 64) - 1
ATTEMPTS = 64

_Registers = ctypes.c_uint64 * REGISTERS


def userfaultfd_of(pid: int, process: int) -> int:
    """A userfaultfd that follows the memory of process `pid`, whose pidfd is `process`. CorpusError says what forbids
    it."""
    if platform.machine() != "x86_64":
        raise CorpusError(
            f"following the writes of a process is there for x86-64 only, and this is {platform.machine()}"
        )
    _require_no_filter(pid)
    with Stopped(pid) as stopped:
        number = stopped.call(USERFAULTFD, USER_MODE_ONLY | CLOSE_ON_EXEC)
        if number < 0:
            raise CorpusError(f"process {pid} cannot make a userfaultfd: {os.strerror(-number)}")
        ours = _libc.syscall(PIDFD_GETFD, process, number, 0)
        problem = ctypes.get_errno()
        stopped.call(CLOSE, number)
    if ours < 0:
        raise CorpusError(f"the userfaultfd of process {pid} cannot be taken over: {os.strerror(problem)}")
    return int(ours)


def _require_no_filter(pid: int) -> None:
    """A process that filters its system calls may be killed by one that it did not expect."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise CorpusError(f"process {pid} is gone") from error
    if "\nSeccomp:\t2" in status:
        raise CorpusError(
            f"process {pid} filters its system calls (seccomp): its writes cannot be followed from outside"
        )


class Stopped:
    """A process that stands still, in which system calls can be made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._signals: list[int] = []
        self._saved = _Registers()
        self._at = 0

    def __enter__(self) -> Stopped:
        self._trace(SEIZE, None)
        try:
            self._trace(INTERRUPT, None)
            self._stopped()
            self._trace(GETREGS, self._saved)
            self._at = _syscall_instruction(self._pid)
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._trace(SETREGS, self._saved)
        self._let_go()

    def _let_go(self) -> None:
        _libc.ptrace(DETACH, self._pid, None, None)
        for number in self._signals:
            os.kill(self._pid, number)

    def call(self, number: int, *arguments: int) -> int:
        """What a system call returns there; negative: an error number."""
        registers = _Registers(*self._saved)
        registers[RAX], registers[ORIG_RAX], registers[RIP] = number, NONE, self._at
        for register, value in zip((RDI, RSI, RDX), arguments, strict=False):
            registers[register] = value
        self._trace(SETREGS, registers)
        for _ in range(ATTEMPTS):
            self._trace(SINGLESTEP, None)
            if self._stopped() == signal.SIGTRAP:
                break
        self._trace(GETREGS, registers)
        return ctypes.c_int64(registers[RAX]).value

    def _stopped(self) -> int:
        """Wait until it stands; the signal for which it does. Others than ours are sent again at the end."""
        _, status = os.waitpid(self._pid, WALL)
        if not os.WIFSTOPPED(status):
            raise CorpusError(f"process {self._pid} ended while it was looked at")
        number = os.WSTOPSIG(status)
        if number != signal.SIGTRAP:
            self._signals.append(number)
        return number

    def _trace(self, request: int, data: object) -> None:
        pointer = ctypes.byref(data) if isinstance(data, ctypes.Array) else None
        ctypes.set_errno(0)
        if _libc.ptrace(request, self._pid, None, pointer) == -1 and (number := ctypes.get_errno()):
            if number == errno.EPERM:
                raise CorpusError(
                    f"process {self._pid} may not be traced: be its user and let it be traced (kernel.yama.ptrace_scope), "
                    "or be root; a process that is debugged already cannot be"
                )
            raise CorpusError(f"process {self._pid} cannot be traced: {os.strerror(number)}")


def _syscall_instruction(pid: int) -> int:
    """Where the process has the two bytes of a system call: in the kernel's own page in it, or in its libraries."""
    executable = [mapping for mapping in mappings(pid) if "x" in mapping.rights and mapping.name != "[vsyscall]"]
    executable.sort(key=lambda mapping: mapping.name != "[vdso]")
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for mapping in executable:
                memory.seek(mapping.start)
                code = memory.read(min(mapping.end - mapping.start, 1 << 22))
                if (place := code.find(SYSCALL)) >= 0:
                    return mapping.start + place
    except OSError as error:
        raise CorpusError(
            f"the memory of process {pid} may not be read: {error.strerror}; be its user, or root"
        ) from error
    raise CorpusError(f"process {pid} has no system call in its code that could be used")
