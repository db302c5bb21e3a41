// AES, PCLMULQDQ, SHA and GFNI on XMM registers: the host's own instructions, and not offered where it has
// them not (fp_host_has).
#include "cpu/instructions/sse.h"

SSE_PLAIN(body_aesimc, "aesimc")
SSE_PLAIN(body_aesenc, "aesenc")
SSE_PLAIN(body_aesenclast, "aesenclast")
SSE_PLAIN(body_aesdec, "aesdec")
SSE_PLAIN(body_aesdeclast, "aesdeclast")
// AESKEYGENASSIST, PCLMULQDQ
SHUFFLE(op_aeskeygenassist, "0x66, 0x0F, 0x3A, 0xDF, 0xC1")
SHUFFLE(op_pclmulqdq, "0x66, 0x0F, 0x3A, 0x44, 0xC1")

SSE_PLAIN(body_sha1nexte, "sha1nexte")
SSE_PLAIN(body_sha1msg1, "sha1msg1")
SSE_PLAIN(body_sha1msg2, "sha1msg2")
SSE_PLAIN(body_sha256msg1, "sha256msg1")
SSE_PLAIN(body_sha256msg2, "sha256msg2")
// SHA1RNDS4
SHUFFLE(op_sha1rnds4, "0x0F, 0x3A, 0xCC, 0xC1")

// SHA256RNDS2: the words of the message come in XMM0.
CORE(sha256rnds2_core, "sha256rnds2",
     asm volatile("movups %0, %%xmm1\n\tmovups %1, %%xmm2\n\tmovups %2, %%xmm0\n\t"
                  "sha256rnds2 %%xmm0, %%xmm2, %%xmm1\n\tmovups %%xmm1, %0"
                  : D128
                  : S128, "m"(*((const struct x128 *)s + 1))
                  : "xmm0", "xmm1", "xmm2");)
void op_sha256rnds2(struct vcpu *v, const struct insn *in)
{
    struct x128 t, pair[2];
    pair[0] = *(const struct x128 *)sse_source(v, in, &t, 16);
    pair[1] = *sse_reg(v, 0);
    sha256rnds2_core(sse_reg(v, in->r), pair);
}

// GF2P8MULB, GF2P8AFFINEQB, GF2P8AFFINEINVQB
SSE_PLAIN(body_gf2p8mulb, "gf2p8mulb")
SHUFFLE(op_gf2p8affineqb, "0x66, 0x0F, 0x3A, 0xCE, 0xC1")
SHUFFLE(op_gf2p8affineinvqb, "0x66, 0x0F, 0x3A, 0xCF, 0xC1")
