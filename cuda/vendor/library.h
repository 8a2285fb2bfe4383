// A library of NVIDIA's, opened at run time, so that one binary starts anywhere. Only what is called is declared, from
// the libraries' documentation.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// A library's call, which enqueues work on the process's stream: made now, or recorded (cuda/recording.h). An Error in
// the part of a graph that is renewed. The runtimes implement it.
void library_call(Stream stream, const std::function<void()>& call);
// Whether a library's call works, also while this thread records: call(stream, memory) enqueues it on another stream
// than the recorded one, with so many bytes of memory, and its result is lost. False when there is no memory.
bool library_trial(size_t bytes, const std::function<void(Stream, void* memory)>& call);
// Whether this thread records a graph.
bool is_recording();

class Library {
 public:
  // Opens the file that the environment's `variable` names, or else the first of `names` that is there. The emulated
  // device knows the former only: no library of NVIDIA's works on its memory.
  Library(const std::string& title, const char* variable, const std::vector<std::string>& names) {
    const char* const file = std::getenv(variable);
    if (file != nullptr && *file != '\0') {
      open(file);
      if (handle_ == nullptr) missing_ = title + ": " + variable + " = '" + file + "' cannot be opened";
      return;
    }
#if !defined(SINEW_CUDA_EMULATE)
    for (const std::string& name : names)
      for (const char* folder : {"", "/usr/local/cuda/lib64/"}) open(folder + name);
    if (handle_ == nullptr)
      missing_ = title + ": " + names.front() + " is not there; install it, or name its file in " + variable;
#else
    missing_ = title + ": the emulated device has none";
#endif
  }
  // f becomes the function of that name.
  template <class F>
  void get(const char* name, F*& f) {
    f = handle_ == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(handle_, name));
    if (f == nullptr && missing_.empty()) missing_ = std::string("the library has no function ") + name;
  }
  // "" or one line.
  const std::string& missing() const { return missing_; }

 private:
  void open(const std::string& file) {
    if (handle_ == nullptr) handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  }

  void* handle_ = nullptr;  // never closed
  std::string missing_;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
