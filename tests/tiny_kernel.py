"""The kernel of tests/stop.c, built: build(COMPILER, DIRECTORY) gives its path."""
import pathlib, subprocess


def build(compiler, work):
    source = pathlib.Path(__file__).resolve().parent / "stop.c"
    kernel, script = work / "kernel", work / "kernel.ld"
    script.write_text("ENTRY(_start) PHDRS { all PT_LOAD FLAGS(7); } SECTIONS { . = 0x100000;"
                      " .all : { *(.text.first) *(.text*) *(.rodata*) *(.data*) *(.bss*) } :all"
                      " /DISCARD/ : { *(.comment) *(.eh_frame) *(.note*) } }")
    subprocess.run([compiler, "-m32", "-Wl,-m,elf_i386", "-O1", "-ffreestanding", "-fno-pic", "-fno-pie", "-no-pie", "-nostdlib", "-static",
                    "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-mgeneral-regs-only", "-Wl,--build-id=none",
                    "-Wl,-z,max-page-size=4096,--no-warn-rwx-segments", "-Wl,-T," + str(script), str(source), "-o", str(kernel)], check=True)
    return kernel
