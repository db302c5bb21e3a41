# The lecture: a program each, with the two small monitors and the story; an image is called lecture-NN.elf.
# Unreal mode leaves 64-bit mode by what the corpus has for that.
set(lecture_extra_06 conformance/low.c conformance/low.S)
# Program 9 carries its monitor, which is 32-bit code.
rom_blob(v86_monitor 0x20000 BITS32 lecture/09-v86-monitor.c)
rom_object(v86_monitor_object lecture/09-images.S "-DV86_MONITOR_IMAGE=\"${v86_monitor}\"" NEEDS ${v86_monitor})
set(lecture_extra_09 conformance/low.c conformance/low.S ${v86_monitor_object})
set(lecture_on_2_processors 10)
set(lecture_programs
    01-ring-aliasing
    02-address-space
    03-excessive-faulting
    04-non-trapping
    05-interrupts
    06-hidden-state
    07-ring-compression
    08-tpr
    09-v86
    10-processors
    11-sharing
    12-life-cycle
    13-moving
    14-where-the-time-goes)
foreach(program ${lecture_programs})
    string(SUBSTRING ${program} 0 2 number)
    rom_image(lecture-${number} lecture/${program}.c lecture/ring.c lecture/vt.c lecture/move.c lecture/guest.c lecture/story.c
        ${lecture_extra_${number}})
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
