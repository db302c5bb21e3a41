# The conformance corpus: TAP guests, one image per subject. An image NAME says in NAME.c what it is about (tap_begin, vmx_test_begin).
set(conformance_on_2_processors vmx-posting vmx-priority)
set(conformance_on_4_processors processors)
foreach(test
        vmx-instructions
        vmx-exits
        vmx-events
        vmx-ept
        vmx-pml
        vmx-ve
        vmx-mbec
        vmx-spp
        vmx-hlat
        vmx-state
        vmx-modes
        vmx-tasks
        vmx-information
        vmx-priority
        vmx-spec-ctrl
        vmx-apicv
        vmx-apic-timer
        vmx-posting
        vmx-xsaves
        vmx-shadowing
        vmx-time
        vmx-msr-list
        vmx-bus-lock
        vmx-tlb
        vmx-controls
        vmx-nonroot
        vmx-nonroot-modes
        vmx-nmi
        vmx-debug)
    rom_image(test-${test} conformance/${test}.c conformance/vmx-common.c)
endforeach()
foreach(test
        vmx-entry
        vmx-entry-controls
        vmx-entry-injection
        vmx-entry-host
        vmx-entry-guest
        vmx-entry-segments
        vmx-entry-state)
    rom_image(test-${test} conformance/${test}.c conformance/vmx-entry-engine.c conformance/vmx-entry-setups.c conformance/vmx-common.c)
endforeach()
foreach(test
        modes
        v86
        tasks
        faults
        paging
        x87-environment)
    rom_image(test-${test} conformance/${test}.c conformance/low.c conformance/low.S)
endforeach()
foreach(test
        debug
        interrupts
        apic
        processors)
    rom_image(test-${test} conformance/${test}.c)
endforeach()
rom_blob(dos_program 0 BITS32 conformance/dos-program.S)
rom_blob(dos_monitor 0x20000 BITS32 conformance/dos-monitor-entry.S conformance/dos-monitor.c)
rom_object(dos_images conformance/dos-images.S "-DDOS_PROGRAM_IMAGE=\"${dos_program}\"" "-DDOS_MONITOR_IMAGE=\"${dos_monitor}\""
    NEEDS ${dos_program} ${dos_monitor})
rom_image(test-dos conformance/dos.c conformance/low.c conformance/low.S ${dos_images})
rom_image(test-vmx-order conformance/vmx-order.c conformance/vmx-common.c conformance/low.c conformance/low.S)
rom_image(test-vmx-host32 conformance/vmx-host32.c conformance/vmx-common.c conformance/low.c conformance/low.S)
