import os

def archive(name):
    os.system('tar czf /backup/' + name + '.tgz ' + name)
