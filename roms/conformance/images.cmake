# The conformance corpus: TAP guests, one image per subject. An image NAME says in NAME.c what it is about (tap_begin, vmx_test_begin).
set(conformance_on_4_processors processors)
foreach(test
        vmx-instructions
        vmx-entry
        vmx-exits
        vmx-events
        vmx-ept
        vmx-state
        vmx-modes
        vmx-spec-ctrl)
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
