// SPDX-License-Identifier: Apache-2.0
// What the lint parses in place of the vendor's header: declarations only.
// In: nothing.  Out: hls::stream.
#pragma once

namespace hls {

template <class T> class stream {
  public:
    bool empty() const;
    bool full() const;
    T read();
    void write(const T& value);
};

} // namespace hls
