// The addresses that this process listens on, from /proc: for tests of "loopback only".
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace sinew::test {

struct ListeningSocket {
  std::string address;  // hexadecimal, as in /proc/net/tcp: 0100007F is 127.0.0.1
  int port = 0;
  bool loopback = false;
};

inline std::vector<ListeningSocket> listening_sockets() {
  std::set<std::string> own;  // inodes
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.rfind("socket:[", 0) == 0) own.insert(target.substr(8, target.size() - 9));
  }
  std::vector<ListeningSocket> found;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state, queues, timer, retransmits, user, timeout, inode;
      fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >> inode;
      if (state != "0A" || !own.count(inode)) continue;
      ListeningSocket socket;
      socket.address = local.substr(0, local.find(':'));
      socket.port = static_cast<int>(std::strtol(local.c_str() + local.find(':') + 1, nullptr, 16));
      const bool v4 = socket.address.size() == 8;
      // The last byte of the little-endian word is the first of the address.
      socket.loopback = v4 ? socket.address.substr(6) == "7F" : socket.address == "00000000000000000000000001000000";
      found.push_back(socket);
    }
  }
  return found;
}

}  // namespace sinew::test
