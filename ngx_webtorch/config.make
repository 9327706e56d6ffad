
# nginx compiles all sources with one CFLAGS; those in C++ need a standard that
# is not the default of every compiler and that a C compiler would refuse

ngx_webtorch_objs=$NGX_OBJS/addon/`basename $ngx_addon_dir`

for ngx_src in $ngx_addon_dir/*.cpp
do
    ngx_obj=$ngx_webtorch_objs/`basename $ngx_src .cpp`.$ngx_objext

    cat << END                                                >> $NGX_MAKEFILE

$ngx_obj:	CFLAGS += -std=c++17

END
done
