# cmake --install: the libraries, their headers under include/sinew, the program, and the package for find_package(sinew).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY SINEW_LIBRARIES)
foreach(name IN LISTS libraries)
  install(TARGETS sinew_${name} EXPORT sinew
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endforeach()
# Without what is private to a library: the CPU kernels' and the CUDA emulation's own headers.
install(DIRECTORY core cuda nn optim dist models DESTINATION include/sinew
  FILES_MATCHING PATTERN "*.h" PATTERN "cpu" EXCLUDE PATTERN "emulate" EXCLUDE PATTERN "build*" EXCLUDE)
install(FILES core/cpu/cpu_info.h DESTINATION include/sinew/core/cpu)
if(TARGET sinew_program)
  install(TARGETS sinew_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/sinew)
install(EXPORT sinew NAMESPACE sinew:: FILE sinewTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/sinewConfig.cmake.in ${CMAKE_BINARY_DIR}/sinewConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/sinewConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/sinewConfig.cmake ${CMAKE_BINARY_DIR}/sinewConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindSinewDNNL.cmake DESTINATION ${package_dir})
