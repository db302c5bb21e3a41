# Writes the bytes of IN as the constant array NAME into the C header OUT.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUT} "static const u8 ${NAME}[] = {${bytes}};\n")
