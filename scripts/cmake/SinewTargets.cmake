# sinew_library(core SOURCES ... PUBLIC ... PRIVATE ...): the library sinew::core from files of this folder.
function(sinew_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(sinew_${name} ${arg_SOURCES})
  add_library(sinew::${name} ALIAS sinew_${name})
  set_target_properties(sinew_${name} PROPERTIES EXPORT_NAME ${name} OUTPUT_NAME sinew_${name})
  target_compile_features(sinew_${name} PUBLIC cxx_std_20)
  target_include_directories(sinew_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/sinew>)
  target_link_libraries(sinew_${name} PUBLIC ${arg_PUBLIC} PRIVATE $<BUILD_INTERFACE:sinew_settings> ${arg_PRIVATE})
endfunction()

# sinew_test(core LIBRARIES ... LABELS ...): one test binary from tests/<name>/*.cpp.
function(sinew_test name)
  cmake_parse_arguments(arg "" "" "LIBRARIES;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/${name}/*.cpp")
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE sinew_settings ${arg_LIBRARIES} GTest::gtest GTest::gtest_main)
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  gtest_discover_tests(test_${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 300 DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 60)
endfunction()

function(sinew_print_summary)
  message(STATUS "sinew ${PROJECT_VERSION}: ${CMAKE_BUILD_TYPE}, oneDNN ${SINEW_HAVE_ONEDNN}, UCX ${SINEW_HAVE_UCX}, zlib ${SINEW_HAVE_ZLIB}, OpenMP ${SINEW_OPENMP}, CUDA ${SINEW_CUDA}")
endfunction()
