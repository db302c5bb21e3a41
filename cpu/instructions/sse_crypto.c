// AES, PCLMULQDQ, SHA and GFNI on XMM and YMM registers: the host's own instructions, and not offered where
// it has them not (cpu_feature_possible).
#include "cpu/instructions/sse.h"

SSE_PLAIN(aesimc, vaesimc)
SSE_PLAIN(aesenc, vaesenc)
SSE_PLAIN(aesenclast, vaesenclast)
SSE_PLAIN(aesdec, vaesdec)
SSE_PLAIN(aesdeclast, vaesdeclast)
SSE_BY_IMM(aeskeygenassist, "0x66, 0x0F, 0x3A, 0xDF, 0xC1")
SSE_BY_IMM(pclmulqdq, "0x66, 0x0F, 0x3A, 0x44, 0xC1")
VEX_BY_IMM(aeskeygenassist, vaeskeygenassist, 0)
VEX_BY_IMM(pclmulqdq, vpclmulqdq, 0)

SSE_ONLY(sha1nexte)
SSE_ONLY(sha1msg1)
SSE_ONLY(sha1msg2)
SSE_ONLY(sha256msg1)
SSE_ONLY(sha256msg2)
SSE_BY_IMM(sha1rnds4, "0x0F, 0x3A, 0xCC, 0xC1")

// SHA256RNDS2: the words of the message come in XMM0.
SSE_BY_XMM0(sha256rnds2)

SSE_PLAIN(gf2p8mulb, vgf2p8mulb)
SSE_BY_IMM(gf2p8affineqb, "0x66, 0x0F, 0x3A, 0xCE, 0xC1")
SSE_BY_IMM(gf2p8affineinvqb, "0x66, 0x0F, 0x3A, 0xCF, 0xC1")
VEX_BY_IMM(gf2p8affineqb, vgf2p8affineqb, 0)
VEX_BY_IMM(gf2p8affineinvqb, vgf2p8affineinvqb, 0)
