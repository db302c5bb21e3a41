# The conformance corpus: TAP guests, one image per subject.
foreach(test)
    rom_image(test-${test} tests/${test}.c)
endforeach()
foreach(test vmx-instructions vmx-entry vmx-exits vmx-events vmx-ept)
    rom_image(test-${test} tests/${test}.c tests/vmx-common.c)
endforeach()
