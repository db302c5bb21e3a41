# The demo hypervisor and the two programs that it carries.
rom_blob(guest_a 0x7c00 demo-hypervisor/guest-a.S)
rom_blob(guest_b 0x10000 demo-hypervisor/guest-b-entry.S demo-hypervisor/guest-b.c)
rom_object(guests_object demo-hypervisor/images.S "-DGUEST_A=\"${guest_a}\"" "-DGUEST_B=\"${guest_b}\""
    NEEDS ${guest_a} ${guest_b})
rom_image(demo-hypervisor demo-hypervisor/main.c demo-hypervisor/guest.c demo-hypervisor/exits.c
    demo-hypervisor/uart.c ${guests_object})
