"""NVRTC without a GPU: compile a kernel for an architecture, and read registers and spills out of the machine code."""
import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def nvrtc():
    "The library of the wheel nvidia-cuda-nvrtc-cu12 (or of CUDA 13's nvidia-cuda-nvrtc); None where neither is installed."
    spec = find_spec("nvidia")
    for root in spec.submodule_search_locations if spec else ():
        for path in sorted(Path(root).glob("*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))


def compiled(
    source: str,     # CUDA C++
    options: tuple,  # such as "-DUNIT=3"
    arch: str,       # such as "sm_90"
) -> bytes:          # machine code, an ELF file
    "Compile for one architecture, with what CuPy's RawKernel adds (-ftz=true); a RuntimeError with the compiler's words where it refuses."
    library, program = nvrtc(), ctypes.c_void_p()
    ask = lambda function, *args: check(getattr(library, function)(program, *args), function)

    def check(status, what):
        if status:
            library.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(f"{what}: {library.nvrtcGetErrorString(status).decode()}")

    def text(kind):
        size = ctypes.c_size_t()
        ask(f"nvrtcGet{kind}Size", ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        ask(f"nvrtcGet{kind}", buffer)
        return buffer.raw

    words = [o.encode() for o in (f"-arch={arch}", "-std=c++17", *options, "-ftz=true", "-Xptxas=-v")]
    check(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None), "nvrtcCreateProgram")
    try:
        try:
            ask("nvrtcCompileProgram", len(words), (ctypes.c_char_p * len(words))(*words))
        except RuntimeError as e:
            raise RuntimeError(f"{e}: {text('ProgramLog').decode()}") from None
        return text("CUBIN"), text("ProgramLog").decode()
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
