# Headers that most of a target's files read: parsed once. For tests, and for the libraries where a sanitizer is on; the
# other builds of the libraries show when a file does not include what it uses.
set(SINEW_COMMON_HEADERS <algorithm> <array> <chrono> <cmath> <cstring> <filesystem> <fstream> <functional> <map> <memory>
  <mutex> <optional> <set> <sstream> <string> <thread> <vector>)

# sinew_library(core SOURCES ... PUBLIC ... PRIVATE ...): the library sinew::core from files of this folder, installed
# with its headers (scripts/cmake/SinewInstall.cmake).
function(sinew_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(sinew_${name} ${arg_SOURCES})
  add_library(sinew::${name} ALIAS sinew_${name})
  set_target_properties(sinew_${name} PROPERTIES EXPORT_NAME ${name} OUTPUT_NAME sinew_${name})
  target_compile_features(sinew_${name} PUBLIC cxx_std_20)
  target_include_directories(sinew_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/sinew>)
  target_link_libraries(sinew_${name} PUBLIC ${arg_PUBLIC} PRIVATE $<BUILD_INTERFACE:sinew_settings> ${arg_PRIVATE})
  if(SINEW_SANITIZE)
    target_precompile_headers(sinew_${name} PRIVATE ${SINEW_COMMON_HEADERS})
  endif()
  set_property(GLOBAL APPEND PROPERTY SINEW_LIBRARIES ${name})
endfunction()

# sinew_test(dist LIBRARIES sinew::dist LABELS dist SERIAL "Ucx*"): one binary test_<name> from tests/<name>/*.cpp; ctest
# runs each of its tests in a process of its own. Suites that match SERIAL (GoogleTest patterns separated by ':') never
# run beside another test; suites named Slow* get the label slow instead, which the sanitizers' runs leave out.
function(sinew_test name)
  cmake_parse_arguments(arg "" "SERIAL" "LIBRARIES;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/${name}/*.cpp")
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE
    sinew_settings sinew_test_support ${arg_LIBRARIES} GTest::gtest GTest::gtest_main)
  target_precompile_headers(test_${name} PRIVATE ${SINEW_COMMON_HEADERS} <gtest/gtest.h>)
  target_compile_options(test_${name} PRIVATE -O1)  # what is tested is in the libraries
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  set(common DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)
  set(properties TIMEOUT 300 LABELS "${arg_LABELS}")
  set(apart "Slow*")
  if(arg_SERIAL)
    string(APPEND apart ":${arg_SERIAL}")
    gtest_discover_tests(test_${name} TEST_FILTER "${arg_SERIAL}" PROPERTIES ${properties} RUN_SERIAL ON ${common})
  endif()
  gtest_discover_tests(test_${name} TEST_FILTER "-${apart}" PROPERTIES ${properties} ${common})
  gtest_discover_tests(test_${name} TEST_FILTER "Slow*" PROPERTIES TIMEOUT 900 LABELS slow ${common})
endfunction()
