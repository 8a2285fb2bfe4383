// Store: a small key-value table that the nodes of a job meet in. For rendezvous only; nothing in a training step
// uses it. Values are short byte strings.
//
// Thread safety: all methods from any thread.
#pragma once

#include <memory>
#include <string>

#include "core/status.h"
#include "dist/world.h"

namespace sinew::dist {

class Store {
 public:
  virtual ~Store() = default;
  virtual Status set(const std::string& key, const std::string& value) = 0;
  // Waits until the key exists.
  virtual Result<std::string> get(const std::string& key, Nanos timeout) = 0;
  // The value now, or not_found.
  virtual Result<std::string> try_get(const std::string& key) = 0;
  // Adds to a counter that starts at 0 and returns the new value.
  virtual Result<int64_t> add(const std::string& key, int64_t amount) = 0;
};

// Jobs meet in a served store, below; these two are for tests and for programs of your own.
// Within one process.
std::shared_ptr<Store> make_memory_store();
// One file per key in a directory, written by rename. For several processes on one file system.
Result<std::shared_ptr<Store>> make_file_store(const std::string& directory);

// Serves a table on a TCP port of `host` (port 0: any free one). Every connection must first prove that it knows the
// secret (HMAC-SHA256 over a fresh challenge, compared in constant time) before anything else is read.
class StoreServer {
 public:
  virtual ~StoreServer() = default;
  virtual int port() const = 0;
};
// Errors: unavailable "address 127.0.0.1:4711 is already in use ...".
Result<std::unique_ptr<StoreServer>> serve_store(const std::string& host, int port, const std::string& secret);
// Errors: timeout when nobody listens until then, permission_denied with a wrong secret.
Result<std::shared_ptr<Store>> connect_store(const std::string& host, int port, const std::string& secret,
                                             Nanos timeout);

}  // namespace sinew::dist
