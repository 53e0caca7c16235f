// SPDX-License-Identifier: Apache-2.0
// Macros for the vendor's pragmas, so that one source works with Vitis HLS, Bambu and plain
// compilers. In: the compiler's own macros.  Out: NM_... macros and HARDWARE.
#pragma once

#define NM_PRAGMA(text) _Pragma(#text)

// NM_LARGE: a local too large for a CPU's stack.  A static one would start as zeros, which an
// UltraRAM cannot do.
#if defined(__SYNTHESIS__)
#define NM_LARGE
#define NM_UNROLL_PRE
#define NM_UNROLL NM_PRAGMA(HLS UNROLL)
#define NM_PIPELINE(ii) NM_PRAGMA(HLS PIPELINE II = ii)
#define NM_NO_PIPELINE NM_PRAGMA(HLS PIPELINE off)
#define NM_TRIPS(least, most) NM_PRAGMA(HLS LOOP_TRIPCOUNT min = least max = most)
#define NM_INLINE NM_PRAGMA(HLS inline)
#define NM_PARTITION(name, axis) NM_PRAGMA(HLS ARRAY_PARTITION variable = name complete dim = axis)
#define NM_RESHAPE(name, axis) NM_PRAGMA(HLS ARRAY_RESHAPE variable = name complete dim = axis)
#define NM_RAM(name, kind, memory)                                                                 \
    NM_PRAGMA(HLS BIND_STORAGE variable = name type = kind impl = memory)
#define NM_KEEP_ORDER NM_PRAGMA(HLS expression_balance off)
#define NM_NO_HAZARD(name) NM_PRAGMA(HLS DEPENDENCE variable = name type = inter dependent = false)
#define NM_HAZARD_AFTER(name, steps)                                                               \
    NM_PRAGMA(HLS DEPENDENCE variable = name type = inter distance = steps dependent = true)
#define NM_MAXI(name, channel, beats)                                                              \
    NM_PRAGMA(HLS INTERFACE mode = m_axi port = name offset = slave bundle = channel depth = beats)
#define NM_REGISTER(name) NM_PRAGMA(HLS INTERFACE mode = s_axilite port = name bundle = control)
#define NM_STREAM(name) NM_PRAGMA(HLS INTERFACE mode = axis port = name)
#define NM_WIRE(name) NM_PRAGMA(HLS INTERFACE mode = ap_none port = name)
// One port of a memory: its other port belongs to another kernel.
#define NM_BRAM(name) NM_PRAGMA(HLS INTERFACE mode = bram port = name storage_type = ram_1p)
#elif defined(__BAMBU__)
#define NM_LARGE static
#define NM_UNROLL_PRE NM_PRAGMA(HLS unroll)
#define NM_UNROLL
#define NM_PIPELINE(ii)
#define NM_NO_PIPELINE
#define NM_TRIPS(least, most)
#define NM_INLINE
#define NM_PARTITION(name, axis)
#define NM_RESHAPE(name, axis)
#define NM_RAM(name, kind, memory)
#define NM_KEEP_ORDER
#define NM_NO_HAZARD(name)
#define NM_HAZARD_AFTER(name, steps)
#define NM_MAXI(name, channel, beats)                                                              \
    NM_PRAGMA(HLS interface port = name mode = m_axi offset = direct)
#define NM_REGISTER(name)
#define NM_STREAM(name)
#define NM_WIRE(name)
#define NM_BRAM(name)
#else
#define NM_LARGE static
#define NM_UNROLL_PRE
#define NM_UNROLL
#define NM_PIPELINE(ii)
#define NM_NO_PIPELINE
#define NM_TRIPS(least, most)
#define NM_INLINE
#define NM_PARTITION(name, axis)
#define NM_RESHAPE(name, axis)
#define NM_RAM(name, kind, memory)
#define NM_KEEP_ORDER
#define NM_NO_HAZARD(name)
#define NM_HAZARD_AFTER(name, steps)
#define NM_MAXI(name, channel, beats)
#define NM_REGISTER(name)
#define NM_STREAM(name)
#define NM_WIRE(name)
#define NM_BRAM(name)
#endif

namespace nm {

// Functions that exist in two schedules have this as a template argument, so that a bench on a CPU
// can compare both schedules.  With NM_DEVICE_LOOPS the emulation runs it.
#if defined(__SYNTHESIS__) || defined(NM_DEVICE_LOOPS)
constexpr bool HARDWARE = true;
#else
constexpr bool HARDWARE = false;
#endif

} // namespace nm
