# The conformance corpus: TAP guests, one image per subject.
foreach(test
        vmx-instructions
        vmx-entry
        vmx-exits
        vmx-events
        vmx-ept
        vmx-state
        vmx-modes)
    rom_image(test-${test} conformance/${test}.c conformance/vmx-common.c)
endforeach()
foreach(test
        modes
        v86
        tasks
        faults
        paging)
    rom_image(test-${test} conformance/${test}.c conformance/low.c conformance/low.S)
endforeach()
foreach(test
        debug
        interrupts
        apic
        processors)
    rom_image(test-${test} conformance/${test}.c)
endforeach()
