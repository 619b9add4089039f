# A method that some table of services names must say what it needs (api/etcd/auth_method.h), or the build fails here.
# cmake -DSOURCE_DIR=... -P cmake/methods.cmake
file(READ ${SOURCE_DIR}/api/etcd/auth_method.h listed)
file(GLOB sources ${SOURCE_DIR}/api/*/*.c)
foreach(source ${sources})
  file(STRINGS ${source} lines REGEX "\\.path = \"/[A-Za-z0-9_.]+\\.[A-Za-z0-9_]+/[A-Za-z0-9_]+\"")
  foreach(line ${lines})
    string(REGEX MATCH "\"/[A-Za-z0-9_.]+\\.[A-Za-z0-9_]+/[A-Za-z0-9_]+\"" path "${line}")
    string(FIND "${listed}" "${path}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${source}: ${path} is served, and api/etcd/auth_method.h does not say who may call it")
    endif()
  endforeach()
endforeach()
