"""A few forked ranks for the engines' own tests."""

import multiprocessing as mp
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from queue import Empty
from typing import Any

import torch
import torch.distributed as dist

from tests.correctness.patience import PATIENCE_S


def _rank_main(
    body: Callable[..., Any],
    rank: int,
    world: int,
    store: str,
    device: str,
    args: tuple[Any, ...],
    queue: Any,
) -> None:
    torch.set_num_threads(1)
    try:
        if device == "cuda":
            torch.cuda.set_device(rank % torch.cuda.device_count())
        own_gpu = device == "cuda" and torch.cuda.device_count() >= world
        dist.init_process_group(
            "nccl" if own_gpu else "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=PATIENCE_S),
            device_id=torch.device("cuda", rank) if own_gpu else None,
        )
        queue.put((rank, "ok", body(*args)))
        dist.barrier()
    except BaseException:
        queue.put((rank, "error", traceback.format_exc()))
    finally:
        queue.close()
        queue.join_thread()
        os._exit(0)


def run_ranks(body: Callable[..., Any], world: int, *args: Any, device: str = "cpu") -> list[Any]:
    """Call `body(*args)` on every rank of a world of its own; the results by rank. Fails on any error.

    With fewer GPUs than ranks they share them, over gloo.
    """
    context = mp.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        queue: Any = context.Queue()
        store = str(Path(folder) / "store")
        ranks = [
            context.Process(target=_rank_main, args=(body, r, world, store, device, args, queue), daemon=True)
            for r in range(world)
        ]
        for process in ranks:
            process.start()
        answers: dict[int, Any] = {}
        errors: list[str] = []
        try:
            for _ in range(world):
                rank, word, value = queue.get(timeout=10 if errors else PATIENCE_S)
                if word == "error":
                    errors.append(f"rank {rank} failed:\n{value}")
                answers[rank] = value
        except Empty:
            errors.append(f"only ranks {sorted(answers)} of {world} answered")
        finally:
            for process in ranks:
                process.join(timeout=0 if len(answers) < world else 10)
                if process.is_alive():
                    process.kill()
    assert not errors, "\n".join(errors)
    return [answers[rank] for rank in range(world)]
