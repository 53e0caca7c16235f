// SPDX-License-Identifier: Apache-2.0
// The sizes of one array.
// Generated from an ArrayConfig
// by `python -m neuralmatrix.hardware.cpp_headers`; do not edit.
// clang-format off
#pragma once

#include "nm/isa.h"

#define NM_ACC_MEMORY bram

namespace nm {

constexpr int ROWS = 16; // PEs along K; bytes per word
constexpr int COLS = 16; // PEs along N
constexpr int IBUF_WORDS = 8192; // activation words
constexpr int WBUF_WORDS = 4096; // weight words
constexpr int PBUF_ROWS = 512; // rows of COLS 64-bit parameters
constexpr int ACC_ROWS = 1024; // accumulator rows
constexpr int OBUF_ROWS = 1024; // result rows per byte plane
constexpr int TBUF_ROWS = 1024; // residual rows per byte plane
constexpr int UBUF_ROWS = 512; // Hadamard rows per byte plane
constexpr int SEG_ENTRIES = 64; // segments of a table that the lanes hold
constexpr int LINE_WORDS = 512; // widest input row in WINDOW mode
constexpr int QUEUE_DEPTH = 32; // instructions waiting per unit
constexpr int TOKEN_DEPTH = 64; // tokens waiting per unit pair
constexpr int WIN = 4; // WINDOW mode handles WIN x WIN taps per pass
constexpr int MACS_PER_DSP = 2; // 2: two columns share a DSP; a WINDOW's sums take two beats
constexpr int LOAD_PORT_BYTES = 8; // width of the LOAD port
constexpr int STORE_PORT_BYTES = 8; // width of the STORE port
constexpr int FETCH_PORT_BYTES = 8; // width of the FETCH port
constexpr char FINGERPRINT[] = "24116a5403e5949a";
constexpr uint64_t FINGERPRINT_BITS = 0x24116a5403e5949aull;

static_assert(ROWS == COLS, "a row of results must be the next layer's word");
static_assert(WIN * WIN <= ROWS, "every tap of a window needs a row of the array");
static_assert(ROWS % 8 == 0, "64-bit parameters must fill whole words");
static_assert(WBUF_WORDS >= ROWS, "a weight block must fit the weight buffer");
static_assert(LINE_WORDS >= WIN, "an input row must hold a window");
static_assert(IBUF_WORDS <= 65536 && WBUF_WORDS <= 65536, "instructions address 16 bits of words");
static_assert(PBUF_ROWS * 8 <= 65536, "a LOAD addresses parameters by word, 8 to a row");
static_assert(ACC_ROWS <= 65536 && OBUF_ROWS <= 65536, "instructions address 16 bits of rows");
static_assert(TBUF_ROWS <= 65536 && UBUF_ROWS <= 65536, "instructions address 16 bits of rows");
static_assert(ROWS % LOAD_PORT_BYTES == 0, "a word must consist of whole LOAD beats");
static_assert(COLS % STORE_PORT_BYTES == 0, "a word must consist of whole STORE beats");
static_assert(INSN_WORDS * 4 % FETCH_PORT_BYTES == 0, "an instruction must be whole FETCH beats");
static_assert(QUEUE_DEPTH > 0 && TOKEN_DEPTH > 0, "queues must not be empty");

} // namespace nm
