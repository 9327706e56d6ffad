
# nginx compiles all sources with one CFLAGS; those in C++ need a standard that
# is not the default of every compiler and that a C compiler would refuse

for ngx_src in $ngx_addon_dir/tensor/*.cpp
do
    ngx_obj=$NGX_OBJS/addon/tensor/`basename $ngx_src .cpp`.$ngx_objext

    cat << END                                                >> $NGX_MAKEFILE

$ngx_obj:	CFLAGS += -std=c++17

END
done

# the assembler includes the page

cat << END                                                    >> $NGX_MAKEFILE

$NGX_OBJS/addon/status/ngx_http_webtorch_status_page.$ngx_objext: \
	$ngx_addon_dir/status/status.html

END
