# The conformance corpus: TAP guests, one image per subject.
foreach(test vmx-instructions vmx-entry vmx-exits vmx-events vmx-ept vmx-state vmx-modes)
    rom_image(test-${test} tests/${test}.c tests/vmx-common.c)
endforeach()
rom_image(test-modes tests/modes.c tests/low.c tests/low.S)
rom_image(test-faults tests/faults.c tests/low.c tests/low.S)
rom_image(test-paging tests/paging.c tests/low.c tests/low.S)
rom_image(test-interrupts tests/interrupts.c)
rom_image(test-apic tests/apic.c)
