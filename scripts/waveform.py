"""Write a waveform file as a digital oscilloscope does, to have something real to send.

    python3 scripts/waveform.py FILE [--mib 24] [--seed 1]

The format is that of LeCroy's oscilloscopes (template LECROY_2_3): a block header, the WAVEDESC
block, and 16-bit samples: here damped pulses of varied height and phase, with noise. Only the
standard library is used, and tens of MiB take a fraction of a second: a few pulses are computed,
then repeated with fresh noise in their low bits.
"""

from __future__ import annotations

import argparse
import array
import math
import random
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PULSE_SAMPLES = 8192
PULSES = 16  # different ones, chosen from at random
FRESH_NOISE = int.from_bytes(b"\x07\x00" * PULSE_SAMPLES, "little")  # the 3 low bits of each
VOLTS_PER_STEP = 8.719309789739782e-07
SECONDS_PER_SAMPLE = 1e-7
RECORD = struct.Struct(
    "<"
    "16s 16s 2h"  # descriptor, template; samples are words, low byte first
    "10i"  # length of each block that follows
    "16s i 16s 2h"  # instrument, its number, trace label, reserved
    "9i 2h"  # counts: points, per screen, first and last valid, ...
    "4f 2h"  # vertical gain, offset, highest, lowest; bits of the converter, segments
    "f 2d 48s 48s f"  # horizontal interval, offset, pixel offset; units; uncertainty
    "d 4b 2h"  # when it was triggered: seconds, minutes, hours, day, month, year
    "f 6h"  # duration; record type, processing, reserved, sweeps, time base, coupling
    "f 2h 2f h"  # probe, gain, bandwidth limit, vernier, offset; channel
)


def descriptor(samples: int, when: time.struct_time) -> bytes:
    """The WAVEDESC block of a single sweep of so many samples."""
    return RECORD.pack(
        *(b"WAVEDESC", b"LECROY_2_3", 1, 1),
        *(RECORD.size, 0, 0, 0, 0, 0, samples * 2, 0, 0, 0),
        *(b"LECROYWP254HD-MS", 50_000, b"", 0, 0),
        *(samples, samples, 0, samples - 1, 0, 1, 0, 1, 1, 0, 0),
        *(VOLTS_PER_STEP, 0.0, 32_767.0, -32_768.0, 14, 1),
        *(SECONDS_PER_SAMPLE, 0.0, 0.0, b"V", b"S", 1e-12),
        *(float(when.tm_sec), when.tm_min, when.tm_hour, when.tm_mday, when.tm_mon),
        *(when.tm_year, 0),
        *(0.0, 0, 0, 0, 1, 27, 2),
        *(1.0, 11, 1, 1.0, 0.0, 1),
    )


def pulse(chance: random.Random) -> bytes:
    """One damped pulse, some samples after its trigger, with the noise of an amplifier."""
    height = chance.uniform(6_000, 24_000)
    period = chance.uniform(150, 900)
    decay = chance.uniform(400, 2_000)
    start = chance.randrange(200, 1_200)
    samples = array.array("h")
    for place in range(PULSE_SAMPLES):
        since = place - start
        ringing = math.exp(-since / decay) * math.sin(math.tau * since / period) if since > 0 else 0
        samples.append(int(height * ringing + chance.gauss(0, 40)))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def sweep(samples: int, seed: int) -> Iterator[bytes]:
    """The samples' bytes, a pulse at a time."""
    chance = random.Random(seed)
    pulses = [int.from_bytes(pulse(chance), "little") for _ in range(PULSES)]
    for place in range(0, samples, PULSE_SAMPLES):
        noise = chance.getrandbits(PULSE_SAMPLES * 16) & FRESH_NOISE
        whole = (chance.choice(pulses) ^ noise).to_bytes(PULSE_SAMPLES * 2, "little")
        yield whole[: (samples - place) * 2]


def write(path: Path, size: int, seed: int) -> None:
    """Write a waveform file of ``size`` bytes, one less where that is odd."""
    header = 11  # bytes: "#9" and the length of what follows in 9 digits
    samples = max(1, (size - header - RECORD.size) // 2)
    with path.open("wb") as file:
        file.write(b"#9%09d" % (RECORD.size + samples * 2))
        file.write(descriptor(samples, time.localtime()))
        file.writelines(sweep(samples, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a waveform file as an oscilloscope does.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--mib", type=int, default=24, help="its size in MiB")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another waveform")
    chosen = parser.parse_args()
    write(chosen.file, chosen.mib * 1024 * 1024, chosen.seed)


if __name__ == "__main__":
    main()
