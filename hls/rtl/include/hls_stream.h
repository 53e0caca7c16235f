// SPDX-License-Identifier: Apache-2.0
// A replacement of the vendor's header for the open RTL path: declarations only, since a unit's
// wrapper takes the place of whatever reads or writes a stream.
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
