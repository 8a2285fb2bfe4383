// What a process tells its supervisor: one record a packet, over a local SOCK_SEQPACKET socket (a socket, not a
// pipe: sending to a supervisor that is gone then raises no signal). Internal to dist.
#pragma once

#include <sys/socket.h>

#include <cstdint>

namespace sinew::dist {

struct StatusRecord {
  static constexpr uint32_t kMagic = 0x73746570;
  uint32_t magic = kMagic;
  int32_t rank = 0;
  uint32_t incarnation = 0;
  uint32_t done = 0;  // 1: the work is finished and its results are kept; how the process ends no longer matters
  int64_t step = 0;   // 0 says only that the process lives
};

// A supervisor that is slow or gone does not concern the training: the record is dropped then.
inline void send_status(int fd, const StatusRecord& record) {
  if (fd >= 0) (void)!::send(fd, &record, sizeof record, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace sinew::dist
