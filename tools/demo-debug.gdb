# What `tools/demo debug` shows, for gdb with tools/matryoshka-gdb.py: a hypervisor and its guest, looked at from both sides of a
# VM exit, and backwards. With tools/demo_debug.py; $demo_guest: the guest's symbols.
set pagination off
set confirm off
python
demo_scene("The machine stands at its first instruction. The hypervisor's symbols gdb has; the guest's are told, for its level.")
demo_do(f"mat symbols guest {demo_text('$demo_guest')}")
demo_scene("Run until the guest's main function. The breakpoint is the guest's: the same address in the hypervisor is no concern of it.")
demo_do("mat at guest guest_main")
demo_do("continue")
demo_do("backtrace 2")
demo_scene("The L1 behind it: the VMCS's host area says where the hypervisor goes on after the next VM exit, on which stack, with which tables.")
demo_do("mat context root")
demo_do("backtrace 1")
demo_do("info registers rip rsp cr3")
demo_do("mat context here")
demo_scene("How this instruction's address is translated: the guest's own tables, and under each of their entries EPT.")
demo_walk = demo_do("mat walk $rip")
demo_scene("Step out of the guest: to the hypervisor's first instruction after the next VM exit. Why it came there, in words:")
demo_do("mat step-exit")
demo_do("mat vmcs EXIT_REASON")
demo_do("mat vmcs EXIT_QUALIFICATION")
demo_scene("And back, to where the processor entered the guest: memory and registers are those of then.")
demo_do("mat back entry")
demo_scene("Who gave the guest the page that its code is in? The EPT entry's address stands in the walk above; the last write of it was in:")
demo_entry = re.findall(r"EPT PTE +at physical (0x[0-9a-f]+)", demo_walk)[-1]
demo_do(f"mat back write physical {demo_entry}")
demo_do("backtrace 3")
print("\nThe run can go on from here, and ends as if nobody had looked: `continue`. `mat help` lists what else there is; docs/debugging.md.")
end
