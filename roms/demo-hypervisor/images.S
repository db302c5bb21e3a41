/* The guests' programs, as bytes. */
        .section .rodata
        .globl  guest_a_image, guest_a_image_end, guest_b_image, guest_b_image_end
guest_a_image:
        .incbin GUEST_A
guest_a_image_end:
guest_b_image:
        .incbin GUEST_B
guest_b_image_end:
