// AES, PCLMULQDQ, SHA and GFNI on XMM registers: the host's own instructions, and not offered where it has
// them not (cpu_feature_possible).
#include "cpu/instructions/sse.h"

SSE_PLAIN(body_aesimc, "aesimc")
SSE_PLAIN(body_aesenc, "aesenc")
SSE_PLAIN(body_aesenclast, "aesenclast")
SSE_PLAIN(body_aesdec, "aesdec")
SSE_PLAIN(body_aesdeclast, "aesdeclast")
// AESKEYGENASSIST, PCLMULQDQ
SSE_BY_IMM(op_aeskeygenassist, "0x66, 0x0F, 0x3A, 0xDF, 0xC1")
SSE_BY_IMM(op_pclmulqdq, "0x66, 0x0F, 0x3A, 0x44, 0xC1")

SSE_PLAIN(body_sha1nexte, "sha1nexte")
SSE_PLAIN(body_sha1msg1, "sha1msg1")
SSE_PLAIN(body_sha1msg2, "sha1msg2")
SSE_PLAIN(body_sha256msg1, "sha256msg1")
SSE_PLAIN(body_sha256msg2, "sha256msg2")
// SHA1RNDS4
SSE_BY_IMM(op_sha1rnds4, "0x0F, 0x3A, 0xCC, 0xC1")

// SHA256RNDS2: the words of the message come in XMM0.
SSE_BY_XMM0(op_sha256rnds2, "sha256rnds2")

// GF2P8MULB, GF2P8AFFINEQB, GF2P8AFFINEINVQB
SSE_PLAIN(body_gf2p8mulb, "gf2p8mulb")
SSE_BY_IMM(op_gf2p8affineqb, "0x66, 0x0F, 0x3A, 0xCE, 0xC1")
SSE_BY_IMM(op_gf2p8affineinvqb, "0x66, 0x0F, 0x3A, 0xCF, 0xC1")
