# The lecture: a program each, with the two small monitors and the story; an image is called lecture-NN.elf.
set(lecture_on_2_processors 10)
set(lecture_programs
    01-ring-aliasing
    02-address-space
    03-excessive-faulting
    04-non-trapping
    05-interrupts)
foreach(program ${lecture_programs})
    string(SUBSTRING ${program} 0 2 number)
    rom_image(lecture-${number} lecture/${program}.c lecture/ring.c lecture/vt.c lecture/guest.c lecture/story.c)
    set(processors 1)
    if(number IN_LIST lecture_on_2_processors)
        set(processors 2)
    endif()
    # Its title is what the program itself says.
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/lecture/${program}.c)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(STRINGS ${source} begin REGEX "lecture_begin\\(")
    string(REGEX REPLACE ".*lecture_begin\\([0-9]+, \"([^\"]*)\".*" "\\1" title "${begin}")
    list(APPEND lecture_numbers ${number})
    list(APPEND lecture_table "${number}|${processors}|${title}")
endforeach()
set_property(GLOBAL PROPERTY lecture_numbers ${lecture_numbers})
set_property(GLOBAL PROPERTY lecture_table ${lecture_table})
