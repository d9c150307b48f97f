# `cmake --install`: headers, CMake package, pkg-config file, and the program where it was built. Nothing installed names
# the place it was installed to, so the tree can be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(l3_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/l3")  # headers only, so not under lib/<machine>
foreach(component IN LISTS l3_components)
  install(TARGETS l3_${component} EXPORT l3-${component}-targets FILE_SET HEADERS)
  install(EXPORT l3-${component}-targets NAMESPACE l3:: DESTINATION "${l3_package_dir}")
endforeach()

configure_package_config_file(cmake/l3-config.cmake.in "${PROJECT_BINARY_DIR}/package/l3-config.cmake"
  INSTALL_DESTINATION "${l3_package_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/l3-config-version.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
  "${PROJECT_BINARY_DIR}/package/l3-config.cmake"
  "${PROJECT_BINARY_DIR}/package/l3-config-version.cmake"
  cmake/l3_optimize.cmake cmake/Findxsimd.cmake cmake/FindFFmpeg.cmake cmake/FindTurboJPEG.cmake cmake/FindNCCL.cmake
  DESTINATION "${l3_package_dir}")

set(l3_pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")
file(RELATIVE_PATH l3_pkgconfig_to_include
  "${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file(cmake/l3.pc.in "${PROJECT_BINARY_DIR}/package/l3.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/package/l3.pc" DESTINATION "${l3_pkgconfig_dir}")

install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
if(TARGET l3)
  install(TARGETS l3 RUNTIME)
endif()
