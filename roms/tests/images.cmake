# The conformance corpus: TAP guests, one image per subject.
foreach(test)
    rom_image(test-${test} tests/${test}.c)
endforeach()
