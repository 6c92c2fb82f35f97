/* Beside libfaketime, which knows the waits of POSIX and not those of C11, by which librdkafka
   waits: they would compare a false time of day with the true one. */

#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
    int error = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);

    if (error == 0)
        return thrd_success;
    return error == ETIMEDOUT ? thrd_timedout : thrd_error;
}
