// SPDX-License-Identifier: Apache-2.0
// The vendor pragmas, behind macros, so that one source serves Vitis HLS, Bambu and plain
// compilers. In: the compiler's own macros.  Out: NM_... macros and HARDWARE.
#pragma once

#define NM_PRAGMA(text) _Pragma(#text)

#if defined(__SYNTHESIS__)
#define NM_UNROLL_PRE
#define NM_UNROLL NM_PRAGMA(HLS UNROLL)
#define NM_PIPELINE(ii) NM_PRAGMA(HLS PIPELINE II = ii)
#define NM_TRIPS(least, most) NM_PRAGMA(HLS LOOP_TRIPCOUNT min = least max = most)
#define NM_INLINE NM_PRAGMA(HLS INLINE)
#define NM_PARTITION(name, axis) NM_PRAGMA(HLS ARRAY_PARTITION variable = name complete dim = axis)
#define NM_RESHAPE(name, axis) NM_PRAGMA(HLS ARRAY_RESHAPE variable = name complete dim = axis)
#define NM_RAM(name, kind) NM_PRAGMA(HLS BIND_STORAGE variable = name type = kind)
#define NM_FABRIC(name) NM_PRAGMA(HLS BIND_OP variable = name op = mul impl = fabric)
#define NM_NO_HAZARD(name) NM_PRAGMA(HLS DEPENDENCE variable = name type = inter dependent = false)
#define NM_HAZARD_AFTER(name, steps)                                                               \
    NM_PRAGMA(HLS DEPENDENCE variable = name type = inter distance = steps dependent = true)
#define NM_MAXI(name, channel)                                                                     \
    NM_PRAGMA(HLS INTERFACE mode = m_axi port = name offset = slave bundle = channel)
#define NM_REGISTER(name) NM_PRAGMA(HLS INTERFACE mode = s_axilite port = name bundle = control)
#define NM_STREAM(name) NM_PRAGMA(HLS INTERFACE mode = axis port = name)
#define NM_BRAM(name) NM_PRAGMA(HLS INTERFACE mode = bram port = name)
#define NM_AGGREGATE(name) NM_PRAGMA(HLS AGGREGATE variable = name compact = bit)
#elif defined(__BAMBU__)
#define NM_UNROLL_PRE NM_PRAGMA(HLS unroll)
#define NM_UNROLL
#define NM_PIPELINE(ii)
#define NM_TRIPS(least, most)
#define NM_INLINE
#define NM_PARTITION(name, axis)
#define NM_RESHAPE(name, axis)
#define NM_RAM(name, kind)
#define NM_FABRIC(name)
#define NM_NO_HAZARD(name)
#define NM_HAZARD_AFTER(name, steps)
#define NM_MAXI(name, channel) NM_PRAGMA(HLS interface port = name mode = m_axi offset = direct)
#define NM_REGISTER(name)
#define NM_STREAM(name)
#define NM_BRAM(name)
#define NM_AGGREGATE(name)
#else
#define NM_UNROLL_PRE
#define NM_UNROLL
#define NM_PIPELINE(ii)
#define NM_TRIPS(least, most)
#define NM_INLINE
#define NM_PARTITION(name, axis)
#define NM_RESHAPE(name, axis)
#define NM_RAM(name, kind)
#define NM_FABRIC(name)
#define NM_NO_HAZARD(name)
#define NM_HAZARD_AFTER(name, steps)
#define NM_MAXI(name, channel)
#define NM_REGISTER(name)
#define NM_STREAM(name)
#define NM_BRAM(name)
#define NM_AGGREGATE(name)
#endif

namespace nm {

// Functions that exist in two schedules take this as a template argument, so that a bench on a CPU
// can run the hardware's schedule too and compare.
#if defined(__SYNTHESIS__)
constexpr bool HARDWARE = true;
#else
constexpr bool HARDWARE = false;
#endif

} // namespace nm
