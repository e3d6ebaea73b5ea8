"""Serve a trained model over HTTP, with the interface of OpenAI's API and a page to chat on.

python 09_capstone/serve.py                              # the newest checkpoint, on this machine
python 09_capstone/serve.py --checkpoint FILE --port 8080 --slots 8
python 09_capstone/serve.py --host 0.0.0.0 --api-key-file key.txt      # for other machines too

SIGTERM and Ctrl-C finish what is being generated and exit with code 0; a second one exits at once.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch

from utils.errors import CourseError

try:
    import uvicorn

    from serving import Service, create_app
except ImportError as error:
    if not (error.name or "").startswith(("uvicorn", "fastapi", "prometheus_client", "starlette")):
        raise
    raise SystemExit(
        f"error: {error.name} is not installed; run: python tools/install.py --extra serve"
    ) from None

from batch_engine import BatchEngine
from chat_prompt import Speakers
from checkpointing import load_checkpoint
from parts import Parts
from sample import newest_checkpoint
from serve_args import KEY_VARIABLE, read_options
from serving_limits import Limits
from slot_batch import SlotBatch
from utils.device import pick_device

HERE = Path(__file__).resolve().parent
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
CONNECTIONS = 800  # and requests: systems often allow a process 1,024 open files
STOPPING = b"finishing what is being generated; a second signal exits at once\n"


def main() -> None:
    """Read the command line, load the model, serve until a signal comes."""
    args = read_options(HERE / "checkpoints")
    torch.set_num_threads(args.threads)
    key = read_key(args.api_key_file)
    path = args.checkpoint or newest_checkpoint(args.checkpoint_dir)
    service = load_service(args, path)
    local = is_loopback(args.host)
    listener = listen(args.host, args.port)
    app = create_app(service, key, LOOPBACK_NAMES if local else None)
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="none",
        access_log=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=round(args.drain_seconds + service.limits.seconds_to_send),
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    if not local and key is None:
        warn_about_missing_key(args.host)
    print(f"model   {service.name}: {path}")
    print(f"chat    http://{shown}:{port}/")
    print(f"API     http://{shown}:{port}/v1", flush=True)
    Server(config, lambda: service.engine.drain(args.drain_seconds)).run([listener])


class Server(uvicorn.Server):
    """uvicorn's server, which drains at the first signal, and exits at once at the second."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self.drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and wait until those that are open have their answers."""
        self.drain()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGINT and SIGTERM. uvicorn's own would make the exit code that of a kill."""
        if self.should_exit:
            os._exit(130)
        self.should_exit = True
        os.write(2, STOPPING)


def load_service(args: argparse.Namespace, path: Path) -> Service:
    """The model of a checkpoint, in an engine with so many slots."""
    checkpoint = load_checkpoint(path)
    model = checkpoint.build_model(Parts.fused()).to(pick_device(args.device)).eval()
    batch = SlotBatch(model, checkpoint.model_config, args.slots, args.group)
    engine = BatchEngine(batch, args.queue)
    limits = Limits(
        max_tokens=args.max_tokens,
        default_tokens=min(args.max_tokens, Limits.default_tokens),
        seconds=args.max_seconds,
    )
    speakers = Speakers(args.user_name, args.assistant_name)
    return Service(args.name or path.stem, checkpoint.tokenizer, engine, limits, speakers)


def read_key(path: Path | None) -> str | None:
    """The key that clients must send, from the file or the environment; None if there is none."""
    key = os.environ.get(KEY_VARIABLE, "") if path is None else path.read_text(encoding="utf-8")
    key = key.strip()
    if path is not None and not key:
        raise CourseError(f"--api-key-file {path} is empty; it should hold one line, the key")
    return key or None


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections there. Raises CourseError if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, because asyncio then sends small pieces at once (TCP_NODELAY). Without it each
    # stream would wait 40 ms for the client to confirm its first piece.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # a port is free again as soon as its server ends
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
        return listener
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise CourseError(f"cannot listen at {host}, port {port}: {reason}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warn_about_missing_key(host: str) -> None:
    """Say what is open to whom."""
    print(
        f"warning: --host {host} lets other machines use this model, and there is no key; "
        f"give --api-key-file FILE or set {KEY_VARIABLE}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    run_program(main)
