// matryoshka lecture: the programs of roms/lecture/, which show why x86 needed VT-x. They are part of this
// program (lecture_images.c, made by the build), and each is run by another copy of it.
#ifndef FRONTEND_LECTURE_H
#define FRONTEND_LECTURE_H

struct lecture {
    unsigned number, processors;
    const char *title;
    const unsigned char *image, *image_end;
};
extern const struct lecture lectures[];
extern const unsigned lectures_n; // 0: built without a compiler for guest images

enum lecture_status {
    LECTURE_HELD = 0,
    LECTURE_FAILED = 1, // a point did not hold
    LECTURE_USAGE = 2,
    LECTURE_ENDED = 3, // the machine ended otherwise than the program ends it
    LECTURE_HOST = 6,  // the host refused
};
int lecture_main(int argc, char **argv); // argv[0] is "lecture"

#endif
